"""report.html of an audit."""
