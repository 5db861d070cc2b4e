"""A run's folder becomes one HTML file that needs nothing else; no torch here."""

from gemel.reports.build import build_report

__all__ = ["build_report"]
