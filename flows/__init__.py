"""What runs, when, with which parameters: flows, their parameters and the command line."""
