"""BGP: sessions with routers, and the nodes that tell them of a VIP."""
