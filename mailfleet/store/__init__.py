"""The only SQL: schema, migrations, queue, events, one module per aggregate."""
