//! What the ranks print: whole lines, files, the console, the last lines for the report.
