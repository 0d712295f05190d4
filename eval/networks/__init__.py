"""The networks that the metrics look through, written in the torch API with the parameter names of the published files."""
