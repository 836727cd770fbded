"""Cryptography: sign, seal and lock, each one module of pure functions over bytes.

``sign`` proves who wrote something, ``seal`` encrypts to a public key, ``lock`` encrypts a record under two
shares that no single holder has. ``merkle`` builds trees and their proofs, ``keyfile`` stores private keys.
Nothing here knows what a batch, a channel or a directory is: callers bind every operation to its place by
the context or info that they pass.
"""

__all__: list[str] = []
