"""Archives: films wherever they lie -> rows in parts -> one table and its summary. Knows no network and no Flask."""
