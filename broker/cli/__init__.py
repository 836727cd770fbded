"""The command line: options and questions, words for people, JSON for programs, exit codes.

``main`` registers one file for each command or group of commands. What they share stands in ``context``
(the chosen profile, ``--json``), ``opening`` (profiles opened, with a question for the passphrase),
``output`` (tables and lines), ``interrupt`` (Ctrl-C) and ``progress_bar``. ``found/`` changes who takes part,
``read/`` reads records, ``demo/`` plays a story.

Nothing is decided here: a command checks what a person typed, calls a room below, and shows the result by
``broker.show``. A program that takes part uses ``broker.session`` and needs no command line.
"""
