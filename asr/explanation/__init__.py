"""What an LSTM is, as one page made from one sentence and one network: `page.page`."""
