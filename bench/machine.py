"""The machine that was measured on, and how busy it was."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import ssl
import subprocess
from importlib.metadata import version
from pathlib import Path

__all__ = ["describe", "load", "peak_rss_bytes"]


_LIBRARIES = ("cryptography", "fastavro")


def describe() -> dict[str, str]:
    """What a reader must know to compare numbers, by name."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "libraries": ", ".join(
            f"{name} {version(name)}" for name in ("cryptography", "fastavro", "aiokafka")
        ),
        "SQLite": sqlite3.sqlite_version,
        "OpenSSL of hashlib": ssl.OPENSSL_VERSION,
        "commit": _commit(),
    }


def load() -> str:
    """The load averages; beyond the number of cores, numbers by wall are worth little."""
    return ", ".join(f"{one:.1f}" for one in os.getloadavg())


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    git, root = shutil.which("git"), Path(__file__).parent.parent
    if git is None or not (root / ".git").exists():
        return "unknown"

    def ask(*words: str) -> str:
        found = subprocess.run([git, *words], cwd=root, capture_output=True, text=True, check=False)
        return found.stdout.strip()

    changed = ask("status", "--porcelain", "--untracked-files=no", "broker", "bench")
    return ask("rev-parse", "--short", "HEAD") + (", with changes" if changed else "")


def peak_rss_bytes() -> int:
    """The most memory that this process has held.

    Not ``getrusage`` on Linux: there a new process begins with the peak of the one that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
