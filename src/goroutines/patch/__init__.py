from goroutines.patch import _registry, _time, _socket, _threading, _select, _ssl, _os, _subprocess
def patch():
    _time.install(); _socket.install(); _select.install(); _ssl.install(); _os.install(); _subprocess.install(); _threading.install(); _registry.sweep()
