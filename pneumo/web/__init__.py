"""The page and the JSON endpoints. The only room that imports Flask."""
