"""Clock, ids, bounds, errors and the secret box. Knows nothing of mail."""
