"""A port before a server, which a test closes and opens again."""

import select
import socket
import socketserver
import threading


class Forwarder:
    """A port before a server; closed, it refuses connections and cuts those that are open."""

    def __init__(self, target: str) -> None:
        host, _, port = target.partition(":")
        self.target = (host, int(port))
        self._server: socketserver.ThreadingTCPServer | None = None
        self._open: set[socket.socket] = set()
        self.port = 0
        self.open()

    def open(self) -> None:
        """Take connections; nothing happens if it does already."""
        if self._server:
            return
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer._carry(self.request)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
        self._server = None
        for end in list(self._open):
            with_shutdown(end)

    def _carry(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self.target)
        except OSError:  # the server is away: so is its port
            return
        with far:
            ends = {near, far}
            self._open |= ends
            try:
                while ready := select.select([near, far], [], [])[0]:
                    for end in ready:
                        if not (data := end.recv(65_536)):
                            return
                        (far if end is near else near).sendall(data)
            except OSError:
                return
            finally:
                self._open -= ends
                with_shutdown(near)


def with_shutdown(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:  # it was closed by the other side
        return
