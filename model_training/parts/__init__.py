"""What several models are made of: layers together with their variables, for both ends of a request."""
