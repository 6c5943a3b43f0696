"""How fast is Turnstile, compared with the barest program that does the same on the same machine?"""
