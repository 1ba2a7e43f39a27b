"""What several verbs do."""
