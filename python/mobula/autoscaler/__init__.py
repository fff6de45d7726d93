"""What Ray asks for more machines with. There is one machine here."""
