"""Golden images: small subjects, dumped on every kernel there is, kept under zdtm/golden/ for all later engines."""
