"""Which records could nobody use, and what shall become of them?"""
