"""What several verbs do: pin a workspace, lock and read the outcome, follow a new lock, select a backend choice."""
