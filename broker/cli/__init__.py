"""The command line: one file for each group of commands, registered in ``main``.

main        the groups, errors and exit codes, what is written to stderr
context     what every command is given: the profile chosen, words or JSON
profile     the file that says who somebody is, and where log, keys and state are
passphrase  where the passphrase of the key files comes from
keystore    the folder of key files
session     a participant at work: log, directory, keys, key access
statement   statements that several keys sign, carried in a file
output      tables, JSON and words
"""
