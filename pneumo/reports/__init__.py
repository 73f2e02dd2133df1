"""What was measured -> figures, and Markdown pages by the templates beside."""
