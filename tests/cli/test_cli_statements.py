"""Statements that several holders sign, and channels, as transcripts."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from support.command_line import Transcript, ftf_broker

A = ("--profile", "authority/authority.toml")


def _split_authority(coalition: Path) -> tuple[str, str]:
    """Give each of two holders one authority key and a profile; the first holder has key 1."""
    shutil.copytree("authority", "second")
    for number in (2, 3):
        (coalition / f"authority/keys/authority-{number}.pem").unlink()
    for number in (1, 3):
        (coalition / f"second/keys/authority-{number}.pem").unlink()
    return "authority/authority.toml", "second/authority.toml"


def test_the_authority_replaces_its_keys_on_one_host(coalition: Path) -> None:
    """k of the old keys and every new key sign; from then on only the new keys count."""
    before = ftf_broker("authority", "show", "--json", *A).json
    assert (before["threshold"], len(before["keys"])) == (2, 3)
    told = ftf_broker("authority", "rotate", "--new", "5", "--threshold", "3", *A)
    assert (told.code, told.out) == (0, "")
    assert "authority replaces the authority's keys by 5, of which 3 sign together: " in told.err
    assert f"of the new keys 5 of 5 are in {coalition}/authority/keys\n" in told.err
    after = ftf_broker("authority", "show", "--json", *A).json
    assert (after["threshold"], len(after["keys"])) == (3, 5)
    assert not {key["key_id"] for key in before["keys"]} & {key["key_id"] for key in after["keys"]}
    for number in (4, 5, 6):
        (coalition / f"authority/keys/authority-{number}.pem").rename(coalition / f"{number}.pem")
    suspend = ("agency", "suspend", "XBB:police", "--reason", "keys lost", *A)
    assert ftf_broker(*suspend, "--out", "s.statement").err.splitlines()[0] == (
        "written to s.statement, nothing appended: "
        "'agency-suspended' has 2 of the 3 authority signatures that it needs"
    )
    (coalition / "4.pem").rename(coalition / "authority/keys/authority-4.pem")
    assert ftf_broker(*suspend).code == 0


def test_holders_on_two_hosts_replace_the_keys(coalition: Path) -> None:
    """Each holder makes its new key on its host, the statement file goes round, and one old key stays."""
    first, second = _split_authority(coalition)
    stays = ftf_broker("authority", "show", "--json", *A).json["keys"][1]["public"]
    new = [ftf_broker("authority", "key", "--profile", profile).out.strip() for profile in (first, second)]
    keys = [word for public in (stays, *new) for word in ("--key", public)]
    drafted = ftf_broker(
        "authority", "rotate", *keys, "--threshold", "2", "--out", "r.statement", "--profile", first
    )
    assert drafted.code == 0
    assert ftf_broker("statement", "submit", "r.statement", "--profile", first).code == 1
    signed = ftf_broker("statement", "sign", "--yes", "r.statement", "--profile", second)
    assert signed.code == 0
    assert "next: ftf-broker statement submit r.statement\n" in signed.err
    assert ftf_broker("statement", "submit", "r.statement", "--profile", second).code == 0
    assert [key["public"] for key in ftf_broker("authority", "show", "--json", *A).json["keys"]] == [
        stays,
        *new,
    ]


def test_a_rotation_that_cannot_be(coalition: Path) -> None:
    """Without a majority, a key or the right to it, the exit code is 2 and no key is made."""
    before = sorted((coalition / "authority/keys").iterdir())
    for arguments, error in (
        (("--new", "4", "--threshold", "2", *A), "--threshold 2 of 4 keys, expected a majority of them"),
        (("--threshold", "1", *A), "--threshold 1 of 0 keys, expected a majority of them"),
        (("--key", "abc", "--threshold", "1", *A), "--key is 'abc', expected 64 hex digits"),
        (("--new", "1", "--threshold", "1", "--profile", "kas/kas.toml"), "'kas' is no authority"),
    ):
        told = ftf_broker("authority", "rotate", *arguments)
        assert (told.code, told.out) == (2, "")
        assert told.err.startswith(f"error: {error}")
    assert sorted((coalition / "authority/keys").iterdir()) == before


def test_a_lost_signing_key_is_recovered_by_the_authority(coalition: Path) -> None:
    """The agency proves its new key, the authority vouches for it, and it is in force 72 hours later."""
    me = ("--profile", "xaa-police/xaa-police.toml")
    (coalition / "xaa-police/keys/signing-1.pem").unlink()
    made = ftf_broker("agency", "key", "recover", "--use", "signing", "--json", *me)
    assert made.code == 0
    file = made.json["request"]
    assert file == f"{coalition}/xaa-police/xaa-police-recovery.statement"
    assert ftf_broker("statement", "submit", file, *A).code == 1, "the agency alone cannot"
    assert ftf_broker("statement", "sign", "--yes", file, *A).code == 0
    told = ftf_broker("statement", "submit", file, *A)
    assert told.code == 0
    assert told.err.endswith("to XAA:police, in force in 72 hours\n")
    keys = ftf_broker("agency", "show", "XAA:police", "--json", *A).json["keys"]
    states = {key["key_id"]: key["state"] for key in keys if key["use"] == "signing"}
    assert states.pop(made.json["key_id"]) == "pending"
    assert list(states.values()) == ["active"]


def test_a_lost_receiving_key_is_recovered_too(coalition: Path) -> None:
    """A receiving key cannot sign, so the request carries no signature of its holder."""
    me = ("--profile", "auditor/auditor.toml")
    assert ftf_broker("agency", "key", "recover", "--use", "receiving", "--out", "r.statement", *me).code == 0
    assert ftf_broker("statement", "sign", "--yes", "r.statement", *A).code == 0
    assert ftf_broker("statement", "submit", "r.statement", *A).code == 0


def test_two_holders_on_two_hosts_sign_one_after_the_other(coalition: Path) -> None:
    """The first holder writes a file, the second looks at it, signs it and submits it."""
    first, second = _split_authority(coalition)
    told = ftf_broker(
        "agency", "suspend", "XBB:police", "--reason", "keys lost", "--out", "s.statement", "--profile", first
    )
    assert told == Transcript(
        0,
        "",
        "written to s.statement, nothing appended: "
        "'agency-suspended' has 1 of the 2 authority signatures that it needs\n"
        "next: ftf-broker statement sign s.statement\n",
    )
    assert ftf_broker("statement", "submit", "s.statement", "--profile", first) == Transcript(
        1, "", "error: 'agency-suspended' has 1 of the 2 authority signatures that it needs\n"
    )
    assert ftf_broker("statement", "sign", "--yes", "s.statement", "--profile", first).code == 2
    shown = ftf_broker("statement", "show", "s.statement", "--profile", second)
    assert shown.code == 0
    assert shown.out.startswith(
        "KIND              ISSUER     SAYS                                   SIGNATURES\n"
        "agency-suspended  authority  suspends agency XBB:police: keys lost           1\n"
        '\nheader.topic           "directory"\n'
    )
    assert shown.err == "not complete: 'agency-suspended' has 1 of the 2 authority signatures that it needs\n"
    signed = ftf_broker("statement", "sign", "--yes", "s.statement", "--profile", second)
    assert (signed.code, signed.out) == (0, "")
    assert signed.err.startswith(
        'authority suspends agency XBB:police: keys lost\n  header.topic: "directory"\n'
    )
    assert signed.err.endswith(
        "signed: authority suspends agency XBB:police: keys lost\n"
        "written to s.statement, nothing appended\n"
        "next: ftf-broker statement submit s.statement\n"
    )
    told = ftf_broker("statement", "submit", "s.statement", "--profile", second, "--json")
    assert (told.code, len(told.json["appended"])) == (0, 1)
    again = ftf_broker("statement", "submit", "s.statement", "--profile", second)
    assert again.code == 2
    assert again.err.startswith("error: the statement is in the directory already, at ")


def test_who_signs_is_shown_what_the_content_says(coalition: Path) -> None:
    """Words that somebody wrote beside the content are not shown to the signer."""
    path = coalition / "s.statement"
    told = ftf_broker("agency", "suspend", "XBB:police", "--reason", "x", "--out", str(path), *A)
    assert told.code == 0
    fields = json.loads(path.read_text())
    fields["says"] = ["admits agency XZZ:harmless"]
    path.write_text(json.dumps(fields))
    shown = ftf_broker("statement", "show", "s.statement", *A)
    assert "suspends agency XBB:police: x" in shown.out
    assert "harmless" not in shown.out + shown.err


def test_who_signs_is_shown_every_field_and_asked(coalition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is signed without a yes, or without a terminal at which somebody could say it."""
    first, second = _split_authority(coalition)
    suspend = ("agency", "suspend", "XBB:police", "--reason", "\x1b[2Jkeys", "--out", "s.statement")
    assert ftf_broker(*suspend, "--profile", first).code == 0
    before = Path("s.statement").read_bytes()
    sign = ("statement", "sign", "s.statement", "--profile", second)
    told = ftf_broker(*sign)
    assert told.code == 2
    assert '  agency: "XBB:police"\n  reason: "\\u001b[2Jkeys"\nerror: there is no terminal' in told.err
    for answer, code in (("n", 2), ("", 2), ("y", 0)):
        assert Path("s.statement").read_bytes() == before
        monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
        assert ftf_broker(*sign).code == code
    assert Path("s.statement").read_bytes() != before


class Terminal(io.StringIO):
    """A stdin at which a person sits."""

    def isatty(self) -> bool:
        return True


def test_a_member_joins_when_all_members_have_signed(coalition: Path) -> None:
    """The new member drafts, each old member signs, and then the channel needs new keys."""
    told = ftf_broker(
        "channel", "join", "trio", "--out", "j.statement", "--profile", "xdd-justice/xdd-justice.toml"
    )
    assert told.code == 0
    assert "0 of 3 members signed, expected 3; missing: XAA:police, XBB:police, XCC:border" in told.err
    for name in ("xaa-police", "xbb-police", "xcc-border"):
        told = ftf_broker("statement", "sign", "--yes", "j.statement", "--profile", f"{name}/{name}.toml")
        assert told.code == 0
    assert ftf_broker("statement", "submit", "j.statement", *A).code == 0
    shown = ftf_broker("channel", "show", "trio", "--json", *A).json
    assert "XDD:justice" in shown["members"]
    assert shown["state"] == "open, needs new keys"


def test_a_member_grants_earlier_keys_to_who_joined_later(coalition: Path) -> None:
    """A new member lacks the epoch before it joined until a member grants it, once."""
    members = [word for name in ("xaa-police", "xbb-police", "xcc-border") for word in _sign_with(name)]
    joiner, member = "xdd-justice/xdd-justice.toml", "xbb-police/xbb-police.toml"
    assert ftf_broker("channel", "join", "trio", *members, "--profile", joiner).code == 0
    assert ftf_broker("channel", "rotate", "trio", "--profile", member).code == 0
    readers = [
        epoch["readers"] for epoch in ftf_broker("channel", "show", "trio", "--json", *A).json["epochs"]
    ]
    assert ["XDD:justice" in names for names in readers] == [False, True]
    told = ftf_broker("channel", "grant", "trio", "--to", "XDD:justice", "--profile", member)
    assert told.err.endswith(": XBB:police grants epoch 0 of trio to XDD:justice\n")
    readers = [
        epoch["readers"] for epoch in ftf_broker("channel", "show", "trio", "--json", *A).json["epochs"]
    ]
    assert ["XDD:justice" in names for names in readers] == [True, True]
    assert ftf_broker("channel", "grant", "trio", "--to", "XDD:justice", "--profile", member) == Transcript(
        2, "", "error: 'XDD:justice' has these keys of 'trio' already\n"
    )


def test_a_new_auditor_is_granted_records_by_a_member_and_accesses_by_the_service(coalition: Path) -> None:
    """A later auditor gets earlier metadata keys from a member, and access keys from the service."""
    kas, member = "kas/kas.toml", "xbb-police/xbb-police.toml"
    assert ftf_broker("auditor", "init", "court", "court", "--like", "authority/authority.toml").code == 0
    told = ftf_broker("auditor", "add", "court/court.statement", *A)
    assert told.code == 0, told.err
    told = ftf_broker("auditor", "assign", "court", "--channel", "trio", *A)
    assert told.code == 0, told.err
    assert ftf_broker("channel", "rotate", "trio", "--profile", member).code == 0
    for profile, granter in ((member, "XBB:police"), (kas, "kas")):
        told = ftf_broker("channel", "grant", "trio", "--to", "court", "--profile", profile)
        assert told.err.endswith(f": {granter} grants epoch 0 of trio to court\n"), told.err
        again = ftf_broker("channel", "grant", "trio", "--to", "court", "--profile", profile)
        assert again == Transcript(2, "", "error: 'court' has these keys of 'trio' already\n")
    other = ("--profile", "xaa-police/xaa-police.toml")
    told = ftf_broker("channel", "grant", "trio", "--to", "court", "--epoch", "0", *other)
    assert told.err.endswith(": XAA:police grants epoch 0 of trio to court\n"), told.err
    told = ftf_broker("channel", "grant", "trio", "--to", "court", "--epoch", "0", *other)
    assert (told.code, "has granted 'court' the metadata seed" in told.err) == (1, True)


def _sign_with(name: str) -> tuple[str, str]:
    return "--sign-with", f"{name}/{name}.toml"


def test_rotate_publishes_keys_and_the_local_kas_confirms_them(coalition: Path) -> None:
    """With the key access service in the same process, new keys can be used at once."""
    told = ftf_broker("channel", "rotate", "trio", "--profile", "xbb-police/xbb-police.toml")
    assert told.code == 1
    assert "had a new epoch less than an hour ago and needs no other one yet" in told.err
    left = ftf_broker("channel", "leave", "trio", "--agency", "XCC:border", *A)
    assert left.code == 0
    told = ftf_broker("channel", "rotate", "trio", "--profile", "xbb-police/xbb-police.toml")
    assert told.code == 0
    assert told.err.endswith("confirmed by kas: epoch 1 of trio\n")
    shown = ftf_broker("channel", "show", "trio", "--json", *A).json
    assert shown["epoch"] == 1
    assert shown["epochs"][1]["readers"] == ["XAA:police", "XBB:police"]


def test_channel_show_says_who_what_why_and_until_when(coalition: Path) -> None:
    """The command shows everything that the channel's opening laid down, and its keys."""
    told = ftf_broker("channel", "show", "trio", *A)
    assert told.code == 0
    assert told.out.splitlines()[:10] == [
        "number        0",
        "kind          multilateral",
        "state         open",
        "members       XAA:police, XBB:police, XCC:border",
        "auditors      auditor",
        "record types  EmergenceReport, JusticeMeasure, RehabilitationEvent, RelocationEvent, ReturnEvent",
        "purposes      INVESTIGATION",
        "legal basis   Treaty, article 7",
        "kept at most  1825 days",
        "joining       all members sign",
    ]
    assert told.out.splitlines()[10].split() == ["EPOCH", "PUBLISHED", "BY", "STATE", "READERS"]


def test_a_channel_is_closed_for_good(coalition: Path) -> None:
    """A closed channel is listed as closed, and it cannot be closed again."""
    assert ftf_broker("channel", "close", "trio", *A).code == 0
    assert ftf_broker("channel", "list", *A, "--json").json[0]["state"] == "closed"
    told = ftf_broker("channel", "close", "trio", *A)
    assert told == Transcript(1, "", "error: channel 'trio' is closed\n")


def test_a_suspended_agency_is_listed_as_suspended_and_reinstated(coalition: Path) -> None:
    """A suspension and its end are listed, and the user is told which channels need new keys."""
    told = ftf_broker("agency", "suspend", "XBB:police", "--reason", "keys lost", *A)
    assert told.code == 0
    assert told.err.endswith(
        "authority suspends agency XBB:police: keys lost\n"
        "these channels need new keys: trio\n"
        "next, by a member of each: ftf-broker channel rotate CHANNEL\n"
    )
    assert ftf_broker("agency", "show", "XBB:police", *A, "--json").json["state"] == "suspended"
    assert ftf_broker("agency", "reinstate", "XBB:police", *A).code == 0
    assert ftf_broker("agency", "show", "XBB:police", *A, "--json").json["state"] == "active"


def test_an_auditor_is_dismissed_and_assigned_again(coalition: Path) -> None:
    """The authority alone removes an auditor from a channel and puts it back."""
    assert ftf_broker("auditor", "dismiss", "auditor", "--channel", "trio", *A).code == 0
    assert ftf_broker("channel", "show", "trio", "--json", *A).json["auditors"] == []
    assert ftf_broker("auditor", "assign", "auditor", "--channel", "trio", *A).code == 0
    assert ftf_broker("channel", "show", "trio", "--json", *A).json["auditors"] == ["auditor"]
