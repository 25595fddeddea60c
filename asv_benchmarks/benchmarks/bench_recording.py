"""Recording one operation: a row appended, a handle made, nothing computed.

A thousand a run, so milliseconds read as microseconds an operation. What the tape does to reclaim them is included.
"""

import tapegrad as tg

THOUSAND = range(1000)


class Recording:
    """Each result is dropped unseen, as in a user's loop."""

    def setup(self):
        self.x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
        self.y = tg.tensor([4.0, 5.0, 6.0], requires_grad=True)
        (self.x * self.y + self.x * 1.5 + self.x.exp()).sum().backward()  # compiles

    def time_1000_tensor_tensor(self):
        x, y = self.x, self.y
        for _ in THOUSAND:
            _ = x * y

    def time_1000_tensor_number(self):
        x = self.x
        for _ in THOUSAND:
            _ = x * 1.5

    def time_1000_unary(self):
        x = self.x
        for _ in THOUSAND:
            _ = x.exp()

    def time_1000_without_grad(self):
        x, y = self.x, self.y
        with tg.no_grad():
            for _ in THOUSAND:
                _ = x * y
