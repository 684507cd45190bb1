"""The read model: what the command line, a console and tests show, as frozen values with typed fields.  Nothing here prints."""
