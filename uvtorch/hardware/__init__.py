"""Reading the machine: one module a vendor, each a probe (effect), a parser (pure) and frozen facts."""
