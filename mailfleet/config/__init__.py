"""Settings (one schema) and the data that ships with Mailfleet: bounce rules, providers."""
