"""Figures and Markdown pages."""
