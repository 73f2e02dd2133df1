"""The page, /predict, health, metrics: the only room that knows Flask.

factory     create_app: puts together what is below
settings    what the environment says
startup     model, profile and keys, checked and held in memory for the workers
server      what gunicorn is told: its settings and hooks
service     what every route needs
hooks       what happens to every request: key, origin, place, headers, log line
access      API keys, pages of other sites
admission   how many requests with films a worker takes
uploads     the films of a request
view        what the templates show
problems    refusals as RFC 9457 or as a page
logs        the log, as text or JSON lines
metrics     what Prometheus is told
routes      one module a route (a new route)
"""
