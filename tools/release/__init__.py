"""How the models that ship are trained, described and shown."""
