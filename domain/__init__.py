"""The rules of the business: subjects, commands, events. Pure: no I/O, no clock."""
