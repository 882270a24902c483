"""Thin models on the ops."""
