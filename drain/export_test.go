package drain

// Descriptor gives a test the descriptor.
func Descriptor(c *Conn, f func(fd int)) {
	_ = c.control(func(fd int) error {
		f(fd)
		return nil
	})
}
