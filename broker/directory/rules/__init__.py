"""The rules of the directory: what a statement of each kind must fulfil, and what it changes.

A rule is a function named after the kind of statement, with this signature:

    def member_left(case: Case, statement: MemberLeft) -> Directory

It returns the directory after the statement, or raises a PeerError that says in one sentence why the
statement does not count. It waits for nothing, reads no clock and keeps no state: its result depends on
its two arguments alone. A rule stands in the module of the thing that it changes:

    agencies        the authority, agencies and auditors
    keys            keys of agencies, auditors and services
    channels        channels and their members
    channel_keys    the keys of a channel's epochs
    waits           the clock of the directory, and what waits for it

A rule may rely on what ``fold`` has done before it calls the rule:

    - the content was decoded strictly, so every field has its type, but no text or number has a sane value
    - the header was checked (``case.check_header``), all but its issuer
    - keys that were pending have taken effect with the clock that ended their 72 hours

A rule must check everything else: the issuer, the names, the numbers, the state of the directory, and the
signatures. It checks signatures by exactly one call of ``signed_by_authority``, ``signed_by_party`` or
``signers``. A statement is public, so the order of the checks gives nothing away. Cheap ones come first.
``fold`` moves the size, the root and the authority's chain; no rule touches them.

To add a kind of statement: write its schema in schemas/protocol and its row in schemas/README.md, section
9; add its class to wire/statements and its kind to wire/encoding; write its rule here, a case for it in
``fold``, a draft in ``drafts`` and a sentence in show/statement_text. mypy names the match in ``fold`` that
lacks it. Tests show each check refusing something. Signed bytes never change their meaning: an old kind
keeps its rule for ever.
"""

__all__: list[str] = []
