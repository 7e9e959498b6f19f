"""Branch and bound over chains of exits, heads and gates, with Lagrangian bounds."""
