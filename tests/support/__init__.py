"""What tests share: real servers, and a database of its own for every test."""
