"""What follows from plans: the price of pins, why and why not, what would fit, what to rent, how to move."""
