"""Who people are: accounts and sign-in (`auth`), profiles (`user`)."""
