"""The command line: one file for each group of commands, registered in ``main``.

main            the groups, errors and exit codes, what is written to stderr
context         what every command is given: the profile chosen, words or JSON
opening         profiles opened, asking for the passphrase at the terminal
output, render  tables, JSON and words; what kinds and reasons mean
issuing         statements of the directory signed, appended or written to a file to be signed on
demo*           the story that ``ftf-broker demo`` plays, one module for each part of it

A participant at work (profile, keys, log) is ``broker.session``, which needs no command line.
"""
