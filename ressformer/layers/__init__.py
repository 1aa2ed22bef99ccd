"""The parts that cores are made of; each module carries its closed-form cost."""
