"""The commands, a module a subject; each turns words on a command line into one call of a flow or task."""
