"""What every part of the planner uses: backend sets, nodes, `Programmed`, and the difference from what is planned."""
