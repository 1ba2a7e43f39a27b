"""One module a verb: facts in, a Plan out. No subprocess, no file writes."""
