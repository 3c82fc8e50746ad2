"""What tests of connectors need: twins of the providers, and a throw-away certificate authority.

A plugin's tests may import this package and what it holds; nothing of it runs in a service. ``northbound demo --twins``
uses the twins too.
"""
