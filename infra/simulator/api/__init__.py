"""The HTTP side of the simulator: endpoints, request shapes, refusals."""
