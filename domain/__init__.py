"""What is true: subjects, commands, events and the rules between them. Pure: no I/O, no clock."""
