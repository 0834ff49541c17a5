from tests.e2e.conftest import fresh_simulator, simulator, start_gateway

__all__ = ["fresh_simulator", "simulator", "start_gateway"]
