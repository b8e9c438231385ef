"""Facts every room shares: settings, flags, the backend, the runtime and errors. Imports no other room."""
