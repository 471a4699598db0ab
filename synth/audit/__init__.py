"""The privacy audit: is a synthetic set closer to its training patients than new patients are, and could we tell?"""
