"""What the report's pictures show, as data: written as report.json, so that it can be scripted."""
