"""How sure a student may be: temperature, a threshold with a promise about it, and the measures of both."""
