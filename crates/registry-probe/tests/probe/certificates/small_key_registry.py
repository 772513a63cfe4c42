"""A registry for `user:password`, whose OpenSSL serves with an RSA key of 1,024 bits, which rustls refuses to load.

Arguments: certificate, key, login. Prints its port, and ends when its standard input does.
"""

import base64, http.server, os, ssl, sys, threading
class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        alice = "Basic " + base64.b64encode(sys.argv[3].encode()).decode()
        granted = self.headers.get("Authorization") == alice
        self.send_response(200 if granted else 401)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if not granted:
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *arguments):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.set_ciphers("DEFAULT@SECLEVEL=0")
context.load_cert_chain(sys.argv[1], sys.argv[2])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print(server.server_address[1], flush=True)
server.serve_forever()
