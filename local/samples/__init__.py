"""What the sample data is made of; local/sample_data.py is the command."""
