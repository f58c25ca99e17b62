"""What Ray and Serve's controller know and do: details, directory, handles, resources, deployment.

May import config and front. The only room that asks Ray's and Serve's private parts about the cluster.
"""
